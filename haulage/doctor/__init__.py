"""The checks of ``haulage doctor``: one small function each, which looks at one thing and says what to do about it."""
