"""What a person looks at: pages, tables, curves, contact sheets."""
