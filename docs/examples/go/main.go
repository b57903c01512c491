// DATABASE_DSN='root@tcp(127.0.0.1:3306)/shop' go run . ORDER TOTAL
package main

import (
	"context"
	"database/sql"
	"log"
	"os"
	"strconv"

	_ "github.com/go-sql-driver/mysql"
)

func main() {
	db, err := sql.Open("mysql", os.Getenv("DATABASE_DSN"))
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()
	order, err := strconv.ParseInt(os.Args[1], 10, 64)
	if err != nil {
		log.Fatal(err)
	}
	if err := placeOrder(context.Background(), db, order, os.Args[2]); err != nil {
		log.Fatal(err)
	}
}
