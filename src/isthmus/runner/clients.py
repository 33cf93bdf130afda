"""The keeper's side of its socket: proxies that ask, and those that want to be told."""

import json
import os
import selectors
import socket
import sys
import traceback

from isthmus.runner import folder as files

READ_BYTES = 1 << 18
SEND_S = 0.5  # a client that takes nothing for so long is dropped: it asks again


class Client(object):
    """A connected proxy."""

    def __init__(self, connection) -> None:
        self.connection = connection
        self.unread = b""
        self.watching = False


class Clients(object):
    """Listens at a path; ``answer(client, request)`` makes the answer to each request."""

    def __init__(self, selector, path: str, answer) -> None:
        self._selector = selector
        self._path = path
        self._answer = answer
        self._clients: dict = {}
        self._listener = self._listen()

    def __len__(self) -> int:
        return len(self._clients)

    def tell(self, message: dict) -> None:
        """Send a message to all who watch."""
        line = files.dump(message) + b"\n"
        for client in list(self._clients.values()):
            if client.watching:
                self._send(client, line)

    def look(self) -> None:
        """Listen anew if somebody has taken the socket's name away, as cleaners of /tmp do."""
        if not os.path.lexists(self._path):
            self._selector.unregister(self._listener)
            self._listener.close()
            self._listener = self._listen()

    def stop_listening(self) -> None:
        """Take no new clients; those that are connected stay."""
        self._selector.unregister(self._listener)
        self._listener.close()
        if os.path.lexists(self._path):
            os.unlink(self._path)

    def close_here(self) -> None:
        """In a forked worker: give up the copies of all sockets, so that their ends are seen."""
        self._listener.close()
        for client in self._clients.values():
            client.connection.close()

    def _listen(self):
        if os.path.lexists(self._path):
            os.unlink(self._path)  # of a keeper that was killed: who is here holds the lock
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        usual = os.umask(0o077)
        try:
            listener.bind(self._path)
        finally:
            os.umask(usual)
        listener.listen(64)
        listener.setblocking(False)
        self._selector.register(listener, selectors.EVENT_READ, self._accept)
        return listener

    def _accept(self, listener):
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        connection.setblocking(False)
        self._clients[connection.fileno()] = Client(connection)
        self._selector.register(connection, selectors.EVENT_READ, self._read)

    def _read(self, connection):
        client = self._clients[connection.fileno()]
        try:
            data = connection.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._drop(client)
            return
        lines = (client.unread + data).split(b"\n")
        client.unread = lines.pop()
        for line in lines:
            try:
                answer = self._answer(client, json.loads(line.decode("utf-8")))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                traceback.print_exc()
                sys.stderr.flush()
                answer = {"error": "The keeper does not understand this: %s: %s" % (type(error).__name__, error)}
            self._send(client, files.dump(answer) + b"\n")

    def _send(self, client, line):
        try:
            client.connection.settimeout(SEND_S)
            client.connection.sendall(line)
            client.connection.setblocking(False)
        except OSError:
            self._drop(client)  # it asks again, and looks at the folders themselves

    def _drop(self, client):
        if self._clients.pop(client.connection.fileno(), None) is not None:
            self._selector.unregister(client.connection)
            client.connection.close()
