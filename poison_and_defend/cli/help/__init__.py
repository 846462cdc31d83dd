"""What commands say of themselves, kept so that it is there before torch is imported."""
