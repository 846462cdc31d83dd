"""Whether an adaptive attack is strong enough that a defence which withstands it may be believed."""
