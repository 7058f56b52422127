"""Reports for people: pages, tables, curves, contact sheets."""
