"""What a person looks at: values and bytes only."""
