class FileCreateError(Exception):
    args: tuple[OSError]
