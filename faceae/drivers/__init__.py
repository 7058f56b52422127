"""The drivers: one function for each job, called by the command line and by jobs/."""
