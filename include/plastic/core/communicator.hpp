#pragma once

#include <algorithm>
#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "plastic/core/check.hpp"
#include "plastic/core/settings.hpp"

namespace plastic {

/// Processes that train one network together; TrainerOptions::communicator says what they share.
///
/// All ranks run the same program and make the same calls in the same order; each call returns when
/// this rank has its part. Called by one thread at a time. A rank that cannot go on must end all
/// others, since they would wait for it: an implementation says how. MpiCommunicator of
/// mpi/communicator.hpp is the one for clusters.
class Communicator {
 public:
  virtual ~Communicator() = default;

  virtual int rank() const = 0;   ///< number of this process, in 0 .. ranks() - 1
  virtual int ranks() const = 0;  ///< number of processes; Trainer takes 1, 2, 4, 8 or 16

  /// Sends bytes to the rank `other` and receives as many from it, while that one does the same.
  virtual void exchange(int other, std::span<const std::byte> send,
                        std::span<std::byte> receive) = 0;

  /// Copies the bytes of rank 0 to all others.
  virtual void broadcast(std::span<std::byte> bytes) = 0;

  /// Threads that this rank should use where nothing else is asked for; 0: as many as
  /// available_threads() says.
  virtual int threads() const { return 0; }
};

namespace detail {

/// Whether other processes have a part of the work.
inline bool is_divided(const Communicator* communicator) {
  return communicator != nullptr && communicator->ranks() > 1;
}

/// Whether this process is the one that writes files and talks to the user.
inline bool leads(const Communicator* communicator) {
  return communicator == nullptr || communicator->rank() == 0;
}

/// The memory of a vector or matrix.
template <class Dense>
std::span<std::byte> bytes_of(Dense& dense) {
  return std::as_writable_bytes(std::span(dense.data(), static_cast<std::size_t>(dense.size())));
}

/// Puts together bytes of which each rank has some, and zeros where others have theirs. No number
/// is added to another, so that no bit is lost. `other` is memory for those of another rank.
inline void merge(Communicator& communicator, std::span<std::byte> bytes,
                  std::vector<std::byte>& other) {
  other.resize(bytes.size());
  for (int distance = 1; distance < communicator.ranks(); distance *= 2) {
    communicator.exchange(communicator.rank() ^ distance, bytes, other);
    for (std::size_t k = 0; k < bytes.size(); ++k) bytes[k] |= other[k];
  }
}

/// The value of rank 0.
template <class T>
T broadcast_value(Communicator& communicator, T value) {
  communicator.broadcast(std::as_writable_bytes(std::span(&value, 1)));
  return value;
}

/// The text of rank 0.
inline std::string broadcast_text(Communicator& communicator, std::string text) {
  text.resize(broadcast_value(communicator, text.size()));
  communicator.broadcast(std::as_writable_bytes(std::span(text)));
  return text;
}

/// Throws std::invalid_argument, naming the first setting of this rank that is not that of rank 0.
inline void check_settings_agree(Communicator& communicator, std::string_view function,
                                 const Settings& settings) {
  std::string text;
  for (const auto& [name, value] : settings) {
    text += name + '\0' + value + '\0';
  }
  const std::string leader = broadcast_text(communicator, text);
  if (leader == text) return;
  Settings expected, all = settings;
  for (std::size_t at = 0; at < leader.size();) {
    const std::string name(leader.c_str() + at);
    const std::string value(leader.c_str() + at + name.size() + 1);
    at += name.size() + value.size() + 2;
    expected[name] = all[name] = value;
  }
  const auto value_in = [](const Settings& some, const std::string& name) {
    const auto found = some.find(name);
    return found == some.end() ? std::string("none") : found->second;
  };
  for (const auto& [name, value] : all) {
    const std::string here = value_in(settings, name), there = value_in(expected, name);
    if (here == there) continue;
    reject(function, "\"" + name + "\" on rank " + std::to_string(communicator.rank()),
           there + ", as on rank 0", here);
  }
}

}  // namespace detail
}  // namespace plastic
