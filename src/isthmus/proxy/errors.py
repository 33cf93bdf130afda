"""What the proxy says when it can't do what it was asked."""


class ProxyError(Exception):
    """A request, or one item of it, could not be done.

    ``code`` is a short word for programs, ``message`` a sentence for the person (with the other program's own words
    where there are some), ``hint`` what to do next, ``transient`` whether the same request may work later.

    Codes: ``bad-request``, ``outside-workdir``, ``not-found``, ``disk-full``, ``forbidden``, ``conflict``, ``cut``,
    ``digest``, ``batch-refused`` (the batch system said no), ``batch-unavailable`` (it did not answer, or not whole),
    ``batch-missing`` (its commands are not on the path), ``fenced``, ``io``, ``internal``.
    """

    def __init__(self, code: str, message: str, hint: str = "", transient: bool = False) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint
        self.transient = transient

    def as_json(self) -> dict:
        return {
            "code": self.code,
            "message": self.message,
            "hint": self.hint,
            "transient": self.transient,
        }
