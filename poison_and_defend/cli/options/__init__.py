"""What was typed: names, presets and values, and a sentence for whatever is wrong with them."""
