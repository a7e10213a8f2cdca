from tests.extension.conftest import collected

__all__ = ["collected"]
