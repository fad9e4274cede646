// A shop's database in a file, by SQLite, which blocks the thread that asks it.
#pragma once

#include <sqlite3.h>

#include <memory>
#include <stdexcept>
#include <string>

// [database]
class database {  // a connection: for one thread at a time
 public:
  explicit database(const std::string& file) {
    sqlite3* db = nullptr;
    const int opened = sqlite3_open(file.c_str(), &db);
    db_.reset(db);
    check(opened);
    check(sqlite3_exec(db, tables, nullptr, nullptr, nullptr));
    find_ = prepare("SELECT name FROM users WHERE id = ?");
    order_ = prepare("INSERT INTO orders (user) VALUES (?)");
  }

  std::string name_of(int user) {
    sqlite3_bind_int(find_.get(), 1, user);
    std::string name;
    if (sqlite3_step(find_.get()) == SQLITE_ROW)
      name = reinterpret_cast<const char*>(sqlite3_column_text(find_.get(), 0));
    check(sqlite3_reset(find_.get()));
    return name;
  }

  int order(int user) {  // a transaction of its own; gives the number of orders that it has made
    sqlite3_bind_int(order_.get(), 1, user);
    sqlite3_step(order_.get());
    check(sqlite3_reset(order_.get()));
    return sqlite3_changes(db_.get());
  }
  // [/database]

 private:
  // With a write-ahead log readers do not wait for a writer. No commit waits for the disk: what is measured is the way
  // to SQLite and back, and a disk is equally slow for all.
  static constexpr const char* tables =
      "PRAGMA synchronous = OFF; PRAGMA journal_mode = WAL;"
      "CREATE TABLE IF NOT EXISTS users (id INTEGER PRIMARY KEY, name TEXT);"
      "CREATE TABLE IF NOT EXISTS orders (id INTEGER PRIMARY KEY, user INTEGER);"
      "INSERT OR IGNORE INTO users"
      "  WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000) SELECT i, 'user ' || i FROM n";

  struct closes {
    void operator()(sqlite3* db) const noexcept { sqlite3_close(db); }
    void operator()(sqlite3_stmt* statement) const noexcept { sqlite3_finalize(statement); }
  };
  using statement = std::unique_ptr<sqlite3_stmt, closes>;

  void check(int code) const {
    if (code != SQLITE_OK) throw std::runtime_error(std::string("SQLite: ") + sqlite3_errmsg(db_.get()));
  }
  statement prepare(const char* sql) const {
    sqlite3_stmt* s = nullptr;
    check(sqlite3_prepare_v2(db_.get(), sql, -1, &s, nullptr));
    return statement(s);
  }

  std::unique_ptr<sqlite3, closes> db_;
  statement find_, order_;
};
