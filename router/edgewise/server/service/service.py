"""What all endpoints share."""

import time
from dataclasses import dataclass, field

from edgewise.router import Router
from edgewise.server.service.admission import AdmissionQueue
from edgewise.server.service.loading import ModelLoading
from edgewise.server.settings import ServerSettings


@dataclass(frozen=True, slots=True)
class Service:
    """The router behind an app, as `request.app.state.service`."""

    router: Router
    settings: ServerSettings
    queue: AdmissionQueue
    loading: ModelLoading
    started: float = field(default_factory=time.time)  # seconds since 1970

    @classmethod
    def of(cls, router: Router, settings: ServerSettings) -> "Service":
        """With a queue of as many places as the device has."""
        places = router.limits.max_queue
        if router.cloud_source:
            places *= 2  # what the device has no place for goes there
        return cls(
            router,
            settings,
            AdmissionQueue(places, settings.max_waiting),
            ModelLoading(router),
        )
