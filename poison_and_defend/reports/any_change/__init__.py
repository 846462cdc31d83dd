"""The page of a certificate of any change."""
