#pragma once

#ifndef OMPI_SKIP_MPICXX
#define OMPI_SKIP_MPICXX 1  // MPI's old C++ interface, which nothing here uses
#endif
#ifndef MPICH_SKIP_MPICXX
#define MPICH_SKIP_MPICXX 1
#endif
#include <mpi.h>
#ifdef __linux__
#include <sched.h>
#endif

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <exception>
#include <iostream>
#include <memory>
#include <new>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "plastic/core/communicator.hpp"
#include "plastic/core/parallel.hpp"

namespace plastic {

/// Whether mpirun, mpiexec or srun with an MPI plugin has started this process, as their variables
/// in the environment say. Open MPI, MPICH, Intel MPI and PMIx are known.
inline bool started_by_mpirun() {
  for (const char* name : {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "PMI_RANK", "PMIX_RANK"}) {
    if (std::getenv(name) != nullptr) return true;
  }
  return false;
}

/// The processes of an MPI program as the ranks of a training run:
///
///     MpiCommunicator ranks;
///     Trainer trainer(net, task, optimizer, {.communicator = &ranks});
///
/// Every process trains its part of each batch, on its own threads. `on_all_ranks` makes one and
/// sees to it that what one rank throws ends all. MPI is called from one thread at a time, that of
/// the caller (MPI_THREAD_FUNNELED); a failure inside MPI ends all ranks with MPI's own message.
class MpiCommunicator final : public Communicator {
 public:
  /// The processes of the job, or those of `processes`, of which it makes a communicator of its
  /// own; called by all of them at once. Begins MPI where the program has not done so, and then
  /// also ends it.
  explicit MpiCommunicator(MPI_Comm processes = MPI_COMM_WORLD) {
    int begun = 0;
    MPI_Initialized(&begun);
    if (begun == 0) {
      int provided = 0;
      MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &provided);
      owns_ = true;
    }
    MPI_Comm_dup(processes, &processes_);
    MPI_Comm_rank(processes_, &rank_);
    MPI_Comm_size(processes_, &ranks_);
    threads_ = own_threads();
  }

  /// Called by all ranks. Where an exception destroys it, the other ranks would wait for this one:
  /// it says so and ends all of them.
  ~MpiCommunicator() override {
    if (std::uncaught_exceptions() > exceptions_) end_all("plastic", "left by an exception");
    MPI_Comm_free(&processes_);
    if (owns_) MPI_Finalize();
  }

  MpiCommunicator(const MpiCommunicator&) = delete;
  MpiCommunicator& operator=(const MpiCommunicator&) = delete;

  int rank() const override { return rank_; }
  int ranks() const override { return ranks_; }

  /// As Communicator says: MPI_Sendrecv. Throws std::invalid_argument if there is no such rank, or
  /// if the sizes differ.
  void exchange(int other, std::span<const std::byte> send, std::span<std::byte> receive) override {
    constexpr std::string_view here = "MpiCommunicator::exchange";
    detail::check_between(here, "other", other, 0, ranks_ - 1);
    if (send.size() != receive.size()) {
      detail::reject(here, "the size of receive", std::to_string(send.size()) + ", that of send",
                     receive.size());
    }
    for_each_piece(send.size(), [&](std::size_t at, int count) {
      MPI_Sendrecv(send.data() + at, count, MPI_BYTE, other, 0, receive.data() + at, count,
                   MPI_BYTE, other, 0, processes_, MPI_STATUS_IGNORE);
    });
  }

  /// As Communicator says: MPI_Bcast.
  void broadcast(std::span<std::byte> bytes) override {
    for_each_piece(bytes.size(), [&](std::size_t at, int count) {
      MPI_Bcast(bytes.data() + at, count, MPI_BYTE, 0, processes_);
    });
  }

  /// Processors that this process may use, shared fairly with those ranks of its machine that may
  /// use the same ones; no more than available_threads().
  int threads() const override { return threads_; }

  /// Prints "program: rank R of N: message" and ends all ranks with exit status 1 (MPI_Abort).
  [[noreturn]] void end_all(std::string_view program, std::string_view message) const {
    std::cout.flush();
    std::cerr << std::string(program) + ": rank " + std::to_string(rank_) + " of " +
                     std::to_string(ranks_) + ": " + std::string(message) + "\n"
              << std::flush;
    MPI_Abort(processes_, 1);
    std::abort();
  }

 private:
  /// MPI counts in int.
  template <class F>
  static void for_each_piece(std::size_t bytes, F&& f) {
    constexpr std::size_t most = std::size_t{1} << 30;
    for (std::size_t at = 0; at < bytes; at += most) {
      f(at, static_cast<int>(std::min(most, bytes - at)));
    }
  }

  int own_threads() const {
#ifdef __linux__
    using Processors = cpu_set_t;
    Processors mine;
    CPU_ZERO(&mine);
    sched_getaffinity(0, sizeof(mine), &mine);
#else
    using Processors = int;
    const Processors mine = 0;
#endif
    MPI_Comm machine = MPI_COMM_NULL;
    MPI_Comm_split_type(processes_, MPI_COMM_TYPE_SHARED, rank_, MPI_INFO_NULL, &machine);
    int ranks_here = 1;
    MPI_Comm_size(machine, &ranks_here);
    std::vector<Processors> all(static_cast<std::size_t>(ranks_here));
    MPI_Allgather(&mine, static_cast<int>(sizeof(mine)), MPI_BYTE, all.data(),
                  static_cast<int>(sizeof(mine)), MPI_BYTE, machine);
    MPI_Comm_free(&machine);
    const auto sharing = std::count_if(all.begin(), all.end(), [&](const Processors& others) {
#ifdef __linux__
      return CPU_EQUAL(&others, &mine) != 0;
#else
      return others == mine;
#endif
    });
#ifdef _OPENMP
    const int processors = omp_get_num_procs();
#else
    const int processors = 1;
#endif
    return std::max(1, std::min(available_threads(), processors / static_cast<int>(sharing)));
  }

  MPI_Comm processes_ = MPI_COMM_NULL;
  bool owns_ = false;
  int rank_ = 0, ranks_ = 1, threads_ = 1;
  int exceptions_ = std::uncaught_exceptions();
};

/// Calls program(communicator), a Communicator*, and returns the exit status that it returns: with
/// the ranks of the job where mpirun has started this process, with nullptr where not. What it
/// throws is printed, after `name` and the rank. A rank that throws, or returns anything but 0,
/// ends all ranks with a status that is not 0, so that none waits for it.
///
///     int main() {
///       return plastic::on_all_ranks("train", [](plastic::Communicator* ranks) { ...; return 0;
///       });
///     }
template <class F>
int on_all_ranks(std::string_view name, F&& program) {
  std::unique_ptr<MpiCommunicator> ranks;
  if (started_by_mpirun()) ranks = std::make_unique<MpiCommunicator>();
  std::string message;
  try {
    const int status = program(static_cast<Communicator*>(ranks.get()));
    if (status == 0 || ranks == nullptr) return status;
    message = "ended with status " + std::to_string(status);
  } catch (const std::bad_alloc&) {
    message = "not enough memory";
  } catch (const std::exception& error) {
    message = error.what();
  }
  if (ranks != nullptr) ranks->end_all(name, message);
  std::cerr << std::string(name) + ": " + message + "\n";
  return 1;
}

}  // namespace plastic
