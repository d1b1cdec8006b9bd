"""What is done with the simulated host from outside: commands, studies, comparisons, reports."""
