"""What is trained: classifiers, denoisers, ensembles."""
