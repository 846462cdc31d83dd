"""Many fits on the ranks of one launch, and networks kept by content."""
