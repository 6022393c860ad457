"""Training: phases are fitted, their weights compared, and the best kept."""
