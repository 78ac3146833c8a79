"""The service's download stream: the files of a channel, for devices."""
