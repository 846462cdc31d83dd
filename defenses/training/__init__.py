"""Training recipes: what a step of the victim's training does otherwise than plain training, for many victims at once."""
