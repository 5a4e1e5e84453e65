"""Who asks: the kernel, the file of local users, Keystone or a host's certificate says so."""
