CREATE TABLE products (
    sku      text    PRIMARY KEY,
    name     text    NOT NULL,
    price    integer NOT NULL CONSTRAINT price_is_not_negative CHECK (price >= 0),
    stock    integer NOT NULL,
    reserved integer NOT NULL DEFAULT 0,
    CONSTRAINT never_oversold CHECK (reserved BETWEEN 0 AND stock)
);
