"""``haulage doctor``, ``config`` and ``profiles``: each finding is provoked on the real thing."""
