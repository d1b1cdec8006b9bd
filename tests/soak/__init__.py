"""Endurance and cost: what a day of 200 domains does to the daemon, and what watching it costs."""
