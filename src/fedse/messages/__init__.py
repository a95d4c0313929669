"""What crosses between a server and a site, as bytes."""
