"""Ray Train: placement, worker groups, their controller and coordinator, and what each worker runs."""
