"""The door of the service: `serve run serve_app:app`."""

import os

from serving import deployments
from serving.settings import Settings

app = deployments.build(Settings.load(os.environ.get("SCOREFUSION_CONFIG")))
