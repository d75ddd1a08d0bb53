CREATE TABLE orders (
    id       integer     GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    customer text        NOT NULL,
    status   text        NOT NULL DEFAULT 'placed' CONSTRAINT status_is_known CHECK (status IN ('placed', 'shipped')),
    placed   timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE order_lines (
    order_id integer NOT NULL REFERENCES orders (id),
    sku      text    NOT NULL REFERENCES products (sku),
    quantity integer NOT NULL CONSTRAINT quantity_is_positive CHECK (quantity > 0),
    PRIMARY KEY (order_id, sku)
);
