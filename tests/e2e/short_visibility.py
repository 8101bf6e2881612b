"""A worker process whose broker takes each message for lost after a second, in place of an hour."""

from __future__ import annotations

from workers.app import app
from workers.process import main

if __name__ == "__main__":
    app.conf.broker_transport_options = {**app.conf.broker_transport_options, "visibility_timeout": 1}
    main()
