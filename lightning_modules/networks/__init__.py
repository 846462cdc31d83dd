"""Any classifier as a body that ends in features, and one linear head over them."""
