# SPDX-License-Identifier: Apache-2.0
"""An app that is run in a container: each order goes into PostgreSQL, Redis and Kafka. Variables say where they are."""

import json
import os
import traceback
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import pg8000.dbapi
import redis
from kafka import KafkaProducer

cache = redis.Redis.from_url(os.environ["REDIS_URL"])
producer = KafkaProducer(bootstrap_servers=os.environ["KAFKA_BOOTSTRAP_SERVERS"])


def order(item):
    url = urlsplit(os.environ["DATABASE_URL"])
    database = pg8000.dbapi.connect(url.username, url.hostname, url.path[1:], url.port, url.password)
    cursor = database.cursor()
    cursor.execute("INSERT INTO orders (item) VALUES (%s) RETURNING id", (item,))
    [number] = cursor.fetchone()
    database.commit()
    database.close()
    cache.incr(f"ordered:{item}")
    producer.send(os.environ["ORDERS_TOPIC"], item.encode()).get(10)
    return {"order": number, "from": [url.hostname, urlsplit(os.environ["REDIS_URL"]).hostname]}


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.answer({"healthy": True})

    def do_POST(self):
        try:
            self.answer(order(self.rfile.read(int(self.headers["Content-Length"])).decode()))
        except Exception:
            self.answer(traceback.format_exc().splitlines())

    def answer(self, what):
        body = json.dumps(what).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


ThreadingHTTPServer(("", 8000), Handler).serve_forever()
