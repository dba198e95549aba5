from typing import Any

class ProvidersManager:
    connection_form_widgets: dict[str, Any]
    field_behaviours: dict[str, Any]
    hooks: Any
