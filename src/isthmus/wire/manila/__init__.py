"""The OpenStack Shared File Systems API v2 (Manila) as data: versions, the fields of each resource, what a request may
hold, faults. Source: the published API reference and the clients' own code."""
