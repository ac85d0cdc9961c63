"""A model of the user, as a whole and operator by operator."""
