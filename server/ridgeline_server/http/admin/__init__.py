"""Loading, replacing and unloading models while the server runs."""

from ridgeline_server.http.admin.handlers import Admin, Administration
from ridgeline_server.http.admin.routes import add_admin
from ridgeline_server.http.admin.schemas import ADMIN_SCHEMAS

__all__ = ["ADMIN_SCHEMAS", "Admin", "Administration", "add_admin"]
