"""The field: the same four calls in a row in other systems, each as its own documentation says."""
