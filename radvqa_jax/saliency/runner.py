def write_maps(*a, **k):
    return []
