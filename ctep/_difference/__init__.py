from .transform import custom_difference as custom_difference, difference as difference
