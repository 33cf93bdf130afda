"""How commands and bytes reach a site: on this machine (`local`), or by SSH (`ssh`). `base` says what one offers."""
