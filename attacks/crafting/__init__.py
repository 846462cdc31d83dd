"""The mathematics that attacks share."""
