"""What is asked, and whether it can work."""
