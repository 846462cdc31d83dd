"""Reading what anybody may have written: bounded, never executed, and any damage is one sentence."""
