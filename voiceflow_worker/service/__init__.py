"""What runs beside the engine for every interface: the doctor, one call, a worker, the metrics of all."""
