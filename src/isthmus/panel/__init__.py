"""The panel: what a person sees of the control plane in a browser. HTML by the server, live by server-sent events.

    browser ─► front ─► /v1/…  the API, untouched
                  └───► pages ─► visitor (session, CSRF) ─► use cases of `control` ─► templates
                        live  ◄─ one watch of the history for all browsers

The panel decides nothing about jobs: it shows what the use cases answer, and asks them to act. What it needs to read
and to kill works without JavaScript.
"""
