-- SPDX-License-Identifier: Apache-2.0
CREATE TABLE users (
    id serial PRIMARY KEY,
    email varchar(255) UNIQUE NOT NULL,
    name varchar(255) NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE orders (
    id serial PRIMARY KEY,
    user_id int NOT NULL REFERENCES users,
    total numeric(10, 2) NOT NULL,
    status varchar(20) NOT NULL DEFAULT 'pending'
);
CREATE TABLE posts (
    id serial PRIMARY KEY,
    author_id int NOT NULL REFERENCES users,
    title varchar(255) NOT NULL
);
