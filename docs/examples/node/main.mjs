// DATABASE_DSN=mysql://root@127.0.0.1:3306/shop node main.mjs ORDER TOTAL (after `npm ci`)
import mysql from 'mysql2/promise';
import { placeOrder } from './place_order.mjs';

const connection = await mysql.createConnection(process.env.DATABASE_DSN);
try {
  await placeOrder(connection, Number(process.argv[2]), process.argv[3]);
} finally {
  await connection.end();
}
