//! `show memory`: what each task says of its own, beside what allocator and kernel say of the process.

use bgp::memory::Usage;
use bgp::net::RibHandle;
use bgp::rib::{Census, RibMemory};
use tokio::sync::oneshot;

use super::{View, refused, stopping, words};
use crate::control::api::{self, MemoryUser};
use crate::kernel::fib;
use crate::memory::{Allocated, Resident};

impl View {
    pub(super) async fn memory(&self) -> Result<api::Memory, api::Error> {
        let rib = rib_memory(&self.rib).await?;
        let fib = self.fib_memory().await?;
        let sessions = self.statuses().await?.iter().map(|status| status.buffers).sum();
        let waiting = self.rib.waiting();
        let part = |user| part(user, &rib, &fib, sessions, waiting);
        let parts: Vec<api::MemoryPart> = MemoryUser::ALL.into_iter().map(part).collect();
        // Not on a thread that has sessions to serve: the allocator looks at all its free blocks.
        let allocated = tokio::task::spawn_blocking(Allocated::read).await.ok().flatten();
        let process = Resident::read().map_err(|error| refused(&format!("/proc/self/status: {error}")))?;
        Ok(api::Memory {
            accounted_octets: parts.iter().filter_map(|part| part.octets).sum(),
            parts,
            allocator: allocated.map(|allocated| api::AllocatorMemory {
                in_use_octets: allocated.in_use,
                free_octets: allocated.free,
            }),
            process: api::ProcessMemory {
                resident_octets: process.resident,
                peak_octets: process.peak,
                anonymous_octets: process.anonymous,
                file_octets: process.file,
            },
        })
    }

    async fn fib_memory(&self) -> Result<fib::Memory, api::Error> {
        let (reply, answer) = oneshot::channel();
        self.fib.send(fib::Request::Memory { reply }).await.map_err(|_| stopping())?;
        answer.await.map_err(|_| stopping())
    }
}

/// In portions, each between two turns of the RIB.
async fn rib_memory(rib: &RibHandle) -> Result<RibMemory, api::Error> {
    let mut census = Census::default();
    loop {
        census = rib.ask(move |rib| rib.count_memory(census)).await.map_err(|_| stopping())?;
        if let Some(memory) = census.result() {
            return Ok(memory);
        }
    }
}

fn part(
    user: MemoryUser,
    rib: &RibMemory,
    fib: &fib::Memory,
    sessions: Usage,
    waiting: usize,
) -> api::MemoryPart {
    let of = |usage: Usage| (usage.count, Some(words::count(usage.octets)));
    let (count, octets) = match user {
        MemoryUser::Paths => of(rib.paths),
        MemoryUser::Prefixes => of(rib.prefixes),
        MemoryUser::Attributes => of(rib.attributes),
        MemoryUser::NextHops => of(rib.next_hops),
        MemoryUser::AdjRibsOut => of(rib.adj_ribs_out),
        MemoryUser::FibRoutes => of(fib.routes),
        MemoryUser::FibSets => of(fib.sets),
        MemoryUser::FibObjects => of(fib.objects),
        MemoryUser::FibTroubles => of(fib.troubles),
        MemoryUser::FibBacklog => of(fib.backlog),
        MemoryUser::SessionBuffers => of(sessions),
        MemoryUser::RibInbox => (waiting, None),
    };
    api::MemoryPart { user, count: words::count(count), octets }
}
