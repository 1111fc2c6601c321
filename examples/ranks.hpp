#pragma once

#include <exception>
#include <iostream>
#include <new>

#include "plastic/core/communicator.hpp"

#ifdef PLASTIC_WITH_MPI
#include "plastic/mpi/communicator.hpp"
#endif

namespace examples {

/// Calls program(communicator) and returns its exit status: with the ranks of the job where mpirun
/// has started this process, and it was built with MPI; else with nullptr. What it throws is
/// printed after `name`, and ends all ranks.
template <class F>
int on_all_ranks(const char* name, F&& program) {
#ifdef PLASTIC_WITH_MPI
  return plastic::on_all_ranks(name, program);
#else
  try {
    return program(static_cast<plastic::Communicator*>(nullptr));
  } catch (const std::bad_alloc&) {
    std::cerr << name << ": not enough memory\n";
  } catch (const std::exception& error) {
    std::cerr << name << ": " << error.what() << "\n";
  }
  return 1;
#endif
}

}  // namespace examples
