"""A model as a service: a page for people and an address for programs, behind Ray Serve."""
