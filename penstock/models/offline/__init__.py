"""What answers when no real model is configured: texts and code from data files, no model at all.

The same parts and seed always give the same text, so that a pipeline can be read from end to end a
minute after it is installed.
"""
