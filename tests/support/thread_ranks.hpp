#pragma once

#include <algorithm>
#include <condition_variable>
#include <cstddef>
#include <deque>
#include <exception>
#include <map>
#include <mutex>
#include <span>
#include <stdexcept>
#include <thread>
#include <utility>
#include <vector>

#include "plastic/core/communicator.hpp"

/// Ranks of one process.
namespace plastic::testing {

/// Another rank has thrown.
struct RanksEnded : std::runtime_error {
  RanksEnded() : std::runtime_error("another rank has ended") {}
};

/// What ranks have sent each other and not yet received.
class Mail {
 public:
  void send(int from, int to, std::span<const std::byte> bytes) {
    const std::lock_guard lock(mutex_);
    letters_[{from, to}].emplace_back(bytes.begin(), bytes.end());
    ++sent_;
    arrived_.notify_all();
  }

  void receive(int from, int to, std::span<std::byte> bytes) {
    std::unique_lock lock(mutex_);
    std::deque<std::vector<std::byte>>& letters = letters_[{from, to}];
    arrived_.wait(lock, [&] { return ended_ || !letters.empty(); });
    if (letters.empty()) throw RanksEnded();
    if (letters.front().size() != bytes.size()) throw std::logic_error("sizes differ");
    std::copy(letters.front().begin(), letters.front().end(), bytes.begin());
    letters.pop_front();
  }

  void end() {
    const std::lock_guard lock(mutex_);
    ended_ = true;
    arrived_.notify_all();
  }

  int sent() const { return sent_; }

 private:
  std::mutex mutex_;
  std::condition_variable arrived_;
  std::map<std::pair<int, int>, std::deque<std::vector<std::byte>>> letters_;
  bool ended_ = false;
  int sent_ = 0;
};

/// A thread as a rank.
class ThreadRank : public Communicator {
 public:
  ThreadRank(Mail& mail, int rank, int ranks) : mail_(mail), rank_(rank), ranks_(ranks) {}
  int rank() const override { return rank_; }
  int ranks() const override { return ranks_; }
  void exchange(int other, std::span<const std::byte> send, std::span<std::byte> receive) override {
    mail_.send(rank_, other, send);
    mail_.receive(other, rank_, receive);
  }
  void broadcast(std::span<std::byte> bytes) override {
    if (rank_ > 0) return mail_.receive(0, rank_, bytes);
    for (int other = 1; other < ranks_; ++other) mail_.send(0, other, bytes);
  }

 private:
  Mail& mail_;
  int rank_, ranks_;
};

/// Calls f(communicator) on so many ranks at once. What one throws ends all and is thrown again.
/// Returns how many messages they have sent.
template <class F>
int on_threads(int ranks, F&& f) {
  Mail mail;
  std::vector<std::exception_ptr> errors(static_cast<std::size_t>(ranks));
  std::vector<std::thread> threads;
  for (int rank = 0; rank < ranks; ++rank) {
    threads.emplace_back([&, rank] {
      ThreadRank own(mail, rank, ranks);
      try {
        f(own);
      } catch (const RanksEnded&) {
        return;
      } catch (...) {
        errors[static_cast<std::size_t>(rank)] = std::current_exception();
        mail.end();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const std::exception_ptr& error : errors) {
    if (error) std::rethrow_exception(error);
  }
  return mail.sent();
}

}  // namespace plastic::testing
