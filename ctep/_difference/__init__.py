from .calls import custom_difference as custom_difference
from .transform import difference as difference
